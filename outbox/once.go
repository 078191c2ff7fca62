package outbox

import (
	"context"

	"github.com/postbus/postbus/store"
)

// Once runs f as Handle runs its function, for packages that declare handlers of their own: ctx is one in which a message
// is being handled, and f takes effect once for that message and its group.
func (b *Box) Once(ctx context.Context, f func(tx *Tx) error) error { return b.handle(ctx, f) }

// DB returns the database of the Box; nil if New got none.
func (b *Box) DB() *store.DB { return b.db }
