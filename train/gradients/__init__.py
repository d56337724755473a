"""How the gradients of the trained variables are computed."""
