"""Documents with questions, of whatever origin: templates, generators, or the original files of benchmarks."""
