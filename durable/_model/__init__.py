"""The values that everything else is written in: ids, messages, errors, limits, the clock."""
