"""Programs that inject faults into servers, and measure what clients see of them."""
