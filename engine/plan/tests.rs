//! What fits and what does not, with the place in the file.
