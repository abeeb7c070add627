"""What a program declares: configuration, scripts, bindings, migrations."""
