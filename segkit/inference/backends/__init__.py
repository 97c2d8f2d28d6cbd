"""Where a network is computed: in PyTorch, or by the runtime of an exported file."""
