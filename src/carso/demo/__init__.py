"""The demo in the browser: draw a digit, attack it, watch what is recalled and how the vote goes."""
