//! A connection on loan.
