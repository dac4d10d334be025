"""Writers of the layouts in which data sets are published."""
