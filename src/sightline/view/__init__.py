"""What a person sees: reading a text with a model, the terminal view, JSON, and the self-contained page."""
