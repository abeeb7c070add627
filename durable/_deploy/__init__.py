"""What a program says of itself: configuration, scripts, bindings, migrations."""
