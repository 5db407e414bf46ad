"""What becomes of users' values beside plain packing: secrets, types, other serializers, compression."""
