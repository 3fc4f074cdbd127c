"""Arrays in, arrays out: the loops under the layers and the optimisers."""
