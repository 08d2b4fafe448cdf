"""What several tests share: a user's workspace, real servers and clusters, a browser, and what stands in stores."""
