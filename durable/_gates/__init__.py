"""Who may speak, and when it is heard: one object's input gate and output gate."""
