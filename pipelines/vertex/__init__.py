"""Google Cloud's Vertex AI: what of a run goes there, and how."""
