"""What a supervisor knows and does about its processes: their time, their health, their end."""
