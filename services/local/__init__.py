"""The embedded cluster: everything Tenfold needs, on one machine, supervised by `supervisord`."""
