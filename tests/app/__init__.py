"""The application: settings, connecting, and what its tests share with those of workers and clients."""
