// Netty's WebSocket client with its compression handler, whose default offer many Java programs
// send. It refuses an answer with a parameter that it has not offered.
//
// usage: java -cp JARS NettyClient.java ws://HOST:PORT/echo (netty.sh says which)

import io.netty.bootstrap.Bootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.http.DefaultHttpHeaders;
import io.netty.handler.codec.http.HttpClientCodec;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.websocketx.BinaryWebSocketFrame;
import io.netty.handler.codec.http.websocketx.CloseWebSocketFrame;
import io.netty.handler.codec.http.websocketx.TextWebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketClientHandshakerFactory;
import io.netty.handler.codec.http.websocketx.WebSocketClientProtocolHandler;
import io.netty.handler.codec.http.websocketx.WebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketFrameAggregator;
import io.netty.handler.codec.http.websocketx.WebSocketVersion;
import io.netty.handler.codec.http.websocketx.extensions.WebSocketClientExtensionHandler;
import io.netty.handler.codec.http.websocketx.extensions.compression.PerMessageDeflateClientExtensionHandshaker;
import io.netty.handler.codec.http.websocketx.extensions.compression.WebSocketClientCompressionHandler;
import io.netty.util.concurrent.Promise;
import java.net.URI;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

class NettyClient {
    static int passed, failed;

    public static void main(String[] arguments) {
        URI uri = URI.create(arguments[0]);
        check(uri, "the default offer", () -> WebSocketClientCompressionHandler.INSTANCE);
        check(uri, "an offer without parameters", () ->
            new WebSocketClientExtensionHandler(new PerMessageDeflateClientExtensionHandshaker(6, false, 15, false, false)));
        check(uri, "an offer without context takeover of the client", () ->
            new WebSocketClientExtensionHandler(new PerMessageDeflateClientExtensionHandshaker(6, false, 15, true, false)));
        System.out.printf("%d passed, %d failed, 0 skipped%n", passed, failed);
        System.exit(failed == 0 ? 0 : 1);
    }

    static void check(URI uri, String name, Supplier<WebSocketClientExtensionHandler> compression) {
        try {
            echo(uri, compression.get());
            passed++;
        } catch (Throwable error) {
            failed++;
            System.out.println(name + ": " + error);
        }
    }

    static void echo(URI uri, WebSocketClientExtensionHandler compression) throws Exception {
        var group = new NioEventLoopGroup(1);
        try {
            var frames = new LinkedBlockingQueue<WebSocketFrame>();
            Promise<String> opened = group.next().newPromise();
            var handshaker = WebSocketClientHandshakerFactory.newHandshaker(
                uri, WebSocketVersion.V13, null, true, new DefaultHttpHeaders(), 32 << 20);
            var bootstrap = new Bootstrap().group(group).channel(NioSocketChannel.class)
                .handler(new ChannelInitializer<SocketChannel>() {
                    @Override
                    protected void initChannel(SocketChannel channel) {
                        channel.pipeline().addLast(
                            new HttpClientCodec(), new HttpObjectAggregator(64 << 10), compression,
                            new WebSocketClientProtocolHandler(handshaker),
                            new WebSocketFrameAggregator(32 << 20), new Handler(opened, frames));
                    }
                });
            var channel = bootstrap.connect(uri.getHost(), uri.getPort()).sync().channel();
            String pipeline = opened.get(10, TimeUnit.SECONDS);
            if (!pipeline.contains("PerMessageDeflate")) throw new AssertionError("not compressed: " + pipeline);
            var random = new Random(20);
            String phrase = "{\"id\":1,\"user\":\"user-7\",\"text\":\"中文 é 😀\"},";
            // More than a window, and each message refers to earlier ones.
            for (int round = 0; round < 60; round++) {
                String text = phrase.repeat(1 + random.nextInt(round % 10 == 9 ? 20_000 : 60)) + round;
                channel.writeAndFlush(new TextWebSocketFrame(text));
                var answer = (TextWebSocketFrame) next(frames);
                if (!answer.text().equals(text)) throw new AssertionError("round " + round);
                answer.release();
                byte[] noise = new byte[random.nextInt(5_000)];
                random.nextBytes(noise);
                channel.writeAndFlush(new BinaryWebSocketFrame(Unpooled.wrappedBuffer(noise)));
                var echo = next(frames).content();
                byte[] received = new byte[echo.readableBytes()];
                echo.readBytes(received).release();
                if (!Arrays.equals(received, noise)) throw new AssertionError("round " + round);
            }
            channel.writeAndFlush(new CloseWebSocketFrame(1000, "")).sync();
            if (!channel.closeFuture().await(10, TimeUnit.SECONDS)) throw new AssertionError("not closed");
        } finally {
            group.shutdownGracefully(0, 1, TimeUnit.SECONDS);
        }
    }

    static WebSocketFrame next(LinkedBlockingQueue<WebSocketFrame> frames) throws InterruptedException {
        var frame = frames.poll(10, TimeUnit.SECONDS);
        if (frame == null) throw new AssertionError("no answer");
        return frame;
    }

    static class Handler extends SimpleChannelInboundHandler<WebSocketFrame> {
        final Promise<String> opened;
        final LinkedBlockingQueue<WebSocketFrame> frames;

        Handler(Promise<String> opened, LinkedBlockingQueue<WebSocketFrame> frames) {
            this.opened = opened;
            this.frames = frames;
        }

        @Override
        protected void channelRead0(ChannelHandlerContext context, WebSocketFrame frame) {
            frames.add(frame.retain());
        }

        @Override
        public void userEventTriggered(ChannelHandlerContext context, Object event) {
            if (event == WebSocketClientProtocolHandler.ClientHandshakeStateEvent.HANDSHAKE_COMPLETE) {
                opened.trySuccess(context.pipeline().toMap().values().toString());
            }
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable error) {
            opened.tryFailure(error);
            context.close();
        }
    }
}
