"""Networks and recipes; in the wheel this folder is the package audiojax.configs."""
