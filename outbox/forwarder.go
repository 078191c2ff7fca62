package outbox

import "github.com/postbus/postbus/internal/sqllog"

// Forwarder TODO
type Forwarder struct{ log *sqllog.Log }
