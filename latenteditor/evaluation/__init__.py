"""What an edit came to, measured against the unedited scene, along a camera path, or against the truth."""
