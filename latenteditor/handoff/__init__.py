"""What leaves as something others read: edited photographs as a dataset, the sharp scene learnt from them, a report."""
