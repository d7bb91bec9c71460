"""The prompt enhancer: a language model that rewrites what users write into what the generator draws well (report section 3.3)."""
