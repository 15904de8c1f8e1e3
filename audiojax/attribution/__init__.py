"""Attribution: how much each input contributes to an output."""
