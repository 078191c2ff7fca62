package main

// The transports that the shop can be started with. Each import makes its URLs known to transport.Open.
import (
	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/rabbitmq"
	_ "github.com/postbus/postbus/transport/sqlite"
)
