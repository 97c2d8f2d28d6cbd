"""Everything that draws: masks, sheets of samples, curves, predictions, plots and pages.

Tensors are channels first, NumPy arrays channels last.
"""
