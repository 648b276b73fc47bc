"""What is known about a model: where its q, k, v are found, and the retaining heads that read them."""
