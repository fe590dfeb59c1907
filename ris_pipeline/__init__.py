"""Near-field localization through a reconfigurable intelligent surface."""
