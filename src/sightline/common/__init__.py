"""What every room may use: checks, errors, files written whole, a look at the dispatcher."""
