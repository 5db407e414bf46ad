"""The wire: frames, messages, and who may say what when. Pure: no sockets, no clocks, no waiting."""
