"""Speed, measured side by side: ours, the published loop, the peers, and the limit of the machine."""
