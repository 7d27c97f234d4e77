"""seqport: recurrent and variable-length sequence models, from training to production."""
