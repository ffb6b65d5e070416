"""The kernels of the law, a room for each family: what defines them, and the C++ and CUDA that compute them."""
