"""What users say of pictures: by command, as JSONL files and over HTTP."""
