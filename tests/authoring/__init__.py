"""What a workflow's author writes with: helpers over asyncio, parallel groups, the builder of steps."""
