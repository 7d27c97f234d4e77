"""Speed, measured side by side: a grid of recurrent networks, lists and streams, and the zoo's models."""
