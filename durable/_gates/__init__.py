"""One object's input gate and output gate: what may run, and when its messages leave."""
