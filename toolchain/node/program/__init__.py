"""The program of the node image: a Kubernetes server or agent in one container."""
