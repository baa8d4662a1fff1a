"""What computes margins from prepared features: one module per kind of bundle."""
