//! A web page, an HTTP API and Prometheus metrics for servers of network-system.
