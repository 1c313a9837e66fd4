"""What the commands of `longtail` do beyond a step of their own."""
