export POSTBUS_TRANSPORT=sqlite:/tmp/shop.db POSTBUS_STORE=sqlite:/tmp/shop.db
go run ./examples/shop

# Find it: what waits, and why.
go run ./cmd/postbus quarantine list
go run ./cmd/postbus quarantine show 1

# Fix it. What came is kept beside that.
go run ./cmd/postbus quarantine edit 1 --payload '{"id":"o-1150","customer":"rob@example.com",
    "card":"card-1150","items":[{"sku":"cup","quantity":2,"cents":450}]}'

# Replay it: it goes to the group that failed, and to no other. The shop finds it there when it opens again.
go run ./cmd/postbus quarantine replay 1
go run ./examples/shop
