"""Raw files: where public ones come from, finding them, fetching them."""
