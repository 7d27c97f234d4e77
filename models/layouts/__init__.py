"""The same weights in each framework's own layout, there and back without a changed bit."""
