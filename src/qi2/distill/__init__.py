"""Few-step distillation by DMD (report section 4.3)."""
