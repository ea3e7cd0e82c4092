"""What a run leaves behind for its reader: metric files, a progress bar, a summary, a report.

Nothing here knows models, devices or JAX: the loop hands over plain numbers and text.

| file | what it holds |
| --- | --- |
| `files.py` | names of a workdir's files; writing them whole, reading what a killed run left |
| `writers.py` | metrics to JSON lines, TensorBoard, Weights & Biases |
| `progress.py` | the bar on a terminal, plain lines elsewhere |
| `summary.py` | final figures as a table, and the rollouts that the report shows |
| `glossary.py` | what each metric means |
| `metric.py` | how a metric is shown |
| `answer_metrics.py`, `feedback_metrics.py` | those of reference answers; of preferences, labels |
| `curriculum_metrics.py` | those of curricula |
| `episode_metrics.py` | those of episodes |
| `bound_metrics.py` | those of likelihoods that are bounds |
| `goodput.py` | where the wall time went: shares, a line for the console, a bar for the report |
| `timeline.py` | what each thread did in profiled steps: for Perfetto, and bars for the report |
| `page.py` | the frame of every page: report, comparison, sweep, plan |
| `report.py` | the report: one HTML file of one run, or of several |
| `run_data.py`, `rollout_view.py` | what the report knows of a workdir: curves, rollouts |
| `example_view.py` | the first examples, token by token |
| `sections.py`, `svg.py`, `style.py`, `script.py` | its HTML, charts, style sheet, JavaScript |
| `data_page.py` | data sets: lengths, rows twice, what cutting costs, rows in colours |
| `overoptimisation.py` | a gold reward against the proxy that was trained on, as the KL grows |
| `weight_drift.py` | where training has moved the weights |
"""
