"""From files and tables to rows of raw features: one file a format, each row judged by itself."""
