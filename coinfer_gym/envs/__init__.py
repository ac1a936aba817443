"""The environments: dynamics, spaces, reward, and the classes that compose them."""
