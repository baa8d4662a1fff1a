"""What a load test saw: recorded, judged, printed and drawn."""
