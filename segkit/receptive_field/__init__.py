"""Exact receptive fields, computed from the operations of a network, not probed.

A row of a map depends on an interval of image rows. Each operation of the network joins the
intervals of the rows it reads; the result is exact for every phase of the stride.
"""

from segkit.receptive_field.reach import (
    Halo,
    LayerReach,
    Reach,
    halo_of,
    layer_reaches,
    reach_of,
    sees_all,
)

__all__ = ["Halo", "LayerReach", "Reach", "halo_of", "layer_reaches", "reach_of", "sees_all"]
