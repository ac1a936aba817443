"""What a reader redoes and a user never needs: the papers' figures and claims, measurements, sweeps."""
