"""What a person sees: the terminal view, JSON, the self-contained page, notebooks and the server."""
